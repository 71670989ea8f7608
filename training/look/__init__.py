"""Looking inside a trained network: one page that shows what it has learnt."""
