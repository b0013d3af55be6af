"""What is peculiar to running inside of a subinterpreter: imports, threads, being held up."""
