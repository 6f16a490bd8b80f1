"""The catalogue over HTTP, for partners' programs: `storefront serve`.

Begin with `application`, which puts the parts together, and `service`, which has what all requests share. `api` has the
addresses below /v1.
"""
