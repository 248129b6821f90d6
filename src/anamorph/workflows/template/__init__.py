"""An unbiased template of many scans, with the transforms of every scan to and from it."""
