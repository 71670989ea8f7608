"""The survey store on disk, its integrity, its one reader and its one decoder interface."""
