"""The twins in NumPy: each module does one family's work where the extension is not loaded."""
