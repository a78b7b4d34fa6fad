"""The paper's tables.  Reading order: published_numbers, profiles, plan, tables, table_view, figures, notebook; `audit`
holds the published numbers against each other.
"""
