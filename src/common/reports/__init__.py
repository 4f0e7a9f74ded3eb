"""What a run found, as text and as figures."""
