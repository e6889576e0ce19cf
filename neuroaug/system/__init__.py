"""What a long computation asks of the machine: files, devices, memory, processes, locks."""
