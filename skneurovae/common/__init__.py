"""What every room may use: moments, missing entries, state of estimators, random numbers."""
