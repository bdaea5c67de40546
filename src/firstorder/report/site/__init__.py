"""The report as a site: static pages that link every number to what is recorded about it; see site.py."""
