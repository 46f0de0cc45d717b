"""The audit of the loop's rule: it counts what the rule says, right or wrong."""

from alignvid.bench.audits.picture_rule import RuleAudit, audit_picture_rule
from alignvid.following.picture_rule import PictureRule
from alignvid.following.questions import Answer


def test_the_rule_says_yes_to_rendered_edits_alone():
    assert audit_picture_rule() == RuleAudit(false_yes=0, of_wrong=22, false_no=0, of_right=12)


def test_a_rule_that_says_yes_to_everything_is_found_out(monkeypatch):
    monkeypatch.setattr(PictureRule, "__call__", lambda self, frames, questions: [Answer(1.0)] * len(questions))
    found = audit_picture_rule.__wrapped__(3)
    assert found.false_yes == found.of_wrong > found.of_right == 3 and found.false_no == 0
