"""One module a verb: a study's defaults are bound to the function of the room that does the work."""
