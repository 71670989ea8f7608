"""From tables and maps to streams of clean positions, answers and what lies beside them."""
