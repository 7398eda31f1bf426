"""The shim, the process that supervises one run; standard library only, started in milliseconds."""
