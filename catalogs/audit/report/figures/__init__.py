"""The figures of the report, each a function from arrays to inline SVG; colours are the page's."""
