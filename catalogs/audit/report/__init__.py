"""What an audit leaves behind: its JSON document, its page with figures, its maps and tables."""
