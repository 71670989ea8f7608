"""What the networks reach: training runs, and the page that is made of them."""
