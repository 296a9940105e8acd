"""The filters of templates: an allow-list with limits, and Ringback's own filters by the kind of their input."""
