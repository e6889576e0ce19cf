"""What a trained generator says of validation people: forecast of its law, probes of its codes."""
