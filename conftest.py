"""What pytest loads for any test of the repository, the driver's in tests/ and the storefront's alike."""

pytest_plugins = ("tests.fixtures", "tests.guards", "tests.secure")
