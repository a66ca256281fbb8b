"""Models that MLflow keeps: where they are found, fetched and registered. Loads no model and no MLflow by itself."""
