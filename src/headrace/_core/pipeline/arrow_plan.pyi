from headrace._core.pipeline.plan import Plan

class ArrowPlan(Plan):
    """The plan of a statement whose columns come in the formats that Arrow's are made of."""
