"""The way from Kaggle to a data folder: login, transfer, archive."""
