"""The pages for a browser, rendered by the service. They work without JavaScript.

`rendering` has the templates and static files, `session` who is signed in and what protects forms. The other modules
have the addresses: the catalogue, batches, and jobs.
"""

from fastapi import APIRouter

from storefront.service.pages import batch_pages, catalogue_pages, job_pages, login_pages, rendering
from storefront.service.pages.rendering import problem_page

router = APIRouter(include_in_schema=False)
for each in (rendering, catalogue_pages, login_pages, batch_pages, job_pages):
    router.include_router(each.router)

__all__ = ["problem_page", "router"]
