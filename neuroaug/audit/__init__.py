"""What is proved and measured before a synthetic image is used."""
