"""What the audit must hold, on simulated skies: `python -m benchmarks.audit_validation`."""
