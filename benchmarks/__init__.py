"""What skytally's speed is measured with; nothing here is installed."""
