"""The words of a report, each explained where a reader can look it up."""

from __future__ import annotations

GLOSSARY = {
    "p*, ground truth": "The distribution to be learnt: a language model, or real data in its place.",
    (
        "teacher p′"
    ): "A model trained on draws of p*. At a lower temperature, or with top-k and the like, it is more selective.",
    "distilled student p″": "A smaller model trained on draws of the selected teacher.",
    "direct student": "The same smaller model trained on p*'s own draws, with no teacher in between.",
    "control": (
        "The direct student, drawn at each of the teacher's settings. Distilling earns its keep only where it "
        "beats this."
    ),
    "temperature τ": (
        "Logits are divided by it before a token is drawn; below 1 the likely becomes likelier. Training temperature "
        "is the "
        "teacher's when it makes the student's data; every student is then measured at the evaluation temperature, 1 "
        "unless asked "
        "otherwise."
    ),
    "precision P": (
        "The mean, over the student's draws, of their log-probability under p*. Higher: what the student writes is "
        "likely under p*."
    ),
    ("recall R"): (
        "The mean, over p*'s draws, of their log-probability under the student. Higher: the student covers what "
        "p* writes."
    ),
    "entropy H(q)": (
        "How varied a distribution's draws are. A point mass on p*'s likeliest sequence would have the highest "
        "precision there is "
        "and no entropy, so precision is never read alone."
    ),
    "KL(q‖p*)": (
        "−H(q) − P: how far the student's draws stray from p*. Its opposite, KL(p*‖q) = −H(p*) − R, counts what of p* "
        "the student misses."
    ),
    (
        "nats per sequence"
    ): "Natural logarithms, summed over a sequence: a difference of 1 is a factor of 2.72 in probability.",
    "frontier": "The points (R, P) that the settings reach. Up and to the right is better.",
    (
        "ideal frontier"
    ): "The most recall that any distribution can have at a given precision: p*'s own draws, reweighted.",
    (
        "limited by fidelity"
    ): "The student has less precision than p* itself, so a better student, not another setting, would close the gap.",
    "interval": "95% t-interval over seeds, given the shared data D and p*'s test draws.",
    "gates": (
        "Before any number is used, stored draws are scored again and must give back their recorded "
        "log-probabilities, and their "
        "total must agree with its own expectation: z is standard normal if they follow the distribution that they "
        "are scored "
        "under, and beyond 4 the run stops."
    ),
    "tied": "Not ruled out as the best, by tests that count how many settings were compared.",
    "surprise": "A text's log-probability under what wrote it less that under who reads it, in nats.",
    "perplexity": "The exponential of the mean loss per token: as if so many tokens were equally likely.",
    "seed": "One repetition: teacher, its data, students and their draws vary; p*'s data and test draws are shared.",
}
