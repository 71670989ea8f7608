"""The sky or the classifier: what labels of some objects say of it, and what to do about it."""
