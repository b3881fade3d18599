"""Language models and sentence encoders, loaded from checked files."""
