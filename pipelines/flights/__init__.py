"""Will this flight arrive more than 15 minutes late? The demo's data, models and script; see docs/demo.md."""
