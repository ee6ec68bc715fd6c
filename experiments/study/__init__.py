"""User studies: a page of questions for a browser, and the table of its answers (Table 1, appendix D)."""
