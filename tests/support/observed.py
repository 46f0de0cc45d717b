"""What tests ask of an observed model and of its trace."""


def hooks_on(model):
    return [
        (name, kind)
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks")
        if getattr(module, kind)
    ]


def seen(trace):
    return {(fact.stack, fact.site, fact.query, fact.keys) for fact in trace.facts if fact.measure == "entropy"}
