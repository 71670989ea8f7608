"""A simulated sky with known truth and injectable observing conditions."""
