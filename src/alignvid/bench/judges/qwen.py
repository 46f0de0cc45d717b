from alignvid.bench.judges.base import JudgeKind

KIND = JudgeKind(
    name="transformers", protocols=("paper", "logit"), options=frozenset({"model"}), open=lambda options: None
)  # type: ignore
