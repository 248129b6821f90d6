"""What the tests of other packages can use: the conformance suite of methods, and scans whose true map is known.

:mod:`anamorph.testing.conformance` needs pytest.
"""
