"""What people do with a trained model: one file per application, no web code."""
