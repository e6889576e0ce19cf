"""Everything that subclasses or calls ClinicaDL 2; importing it takes ten seconds of one core."""
