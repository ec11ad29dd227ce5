"""A kind of step of its own, as anyone would add one: everything about it is in this file."""

from distilscope.studies.costs import Cost
from distilscope.studies.steps.registry import StepKind, register


def count_tokens(config, inputs, output, scratch):  # noqa: ARG001
    text = (inputs["prompts"] / "prompts.json").read_text(encoding="utf-8")
    (output / "count.txt").write_text(str(text.count(config["letter"])), encoding="utf-8")
    return {"tokens": len(text)}


def cost(*, texts: int) -> Cost:
    return Cost(flops=1e12 * texts, tokens=texts, disk=8, memory=10**9)


TOY = register(
    StepKind(
        "toy",
        version=3,
        function="toy_step:count_tokens",
        cost=cost,
        utilisation=0.5,
        memory_setting="tile_of_toys",
    )
)
