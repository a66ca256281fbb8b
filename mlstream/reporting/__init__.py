"""Put comparisons where people read them: MLflow, charts."""
