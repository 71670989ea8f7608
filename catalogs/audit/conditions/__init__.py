"""What observing conditions explain of the fractions, and what they leave."""
