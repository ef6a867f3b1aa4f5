"""The page that says which claims of the papers' abstracts hold in our records."""

from . import _scoreboard
from ._scoreboard import Line

# Claims in our words. Each has the lines of the scoreboard that decide it, as (part of the title,
# part of the data), or a sentence if no line can.
CLAIMS = {
    "LAB-RBF (2310.05236, 2406.01435)": (
        ("Learned, locally adaptive bandwidths make a kernel flexible enough to do without a "
         "ridge, and more accurate than fixed kernels and other learners on real tables.",
         [("(LAB)", "")]),
        ("A small part of the data as support is enough.",
         "See the column *rows stored* of {bench-lab-rbf-full}: kernel ridge regression stores "
         "every row. On small tables, our default keeps all rows where held-out samples prefer "
         "that."),
    ),
    "DeKRR-DDRF (2405.07791)": (
        ("Consensus on values lets nodes choose their own, data-dependent features, and is more "
         "accurate than decentralized regression with common features.",
         [("(DeKRR)", "")]),
        ("Nodes exchange coefficients, never samples.",
         "Holds for the messages, but samples can be reconstructed from the sums that are "
         "exchanged before the first round: see the example on reconstruction. Privacy needs "
         "GaussianRelease."),
    ),
    "Supervised kernel imputation (2405.07800)": (
        ("Imputing with the labels in view improves the classification of data with missing "
         "values, most at high rates.",
         [("supervised kernel imputation", "20 %"), ("supervised kernel imputation", "50 %"),
          ("supervised kernel imputation", "80 %")]),
        ("The gain is greatest where most entries are missing.",
         "Holds for our classifier, which does not impute: with 60% to 90% missing, it is "
         "significantly better than nearest neighbors with a tuned support vector machine in 40 of "
         "48 settings of twelve tables, and worse in 3 ({bench-missing-accuracy})."),
        ("The published two-stage method is itself better than other imputers.",
         "Does not hold here: on most tables of {bench-imputation-full}, the row *published* is "
         "below filling with means. Our default, the joint Gaussian model, is above both."),
    ),
    "MUSO (2410.08557)": (
        ("Over-parameterized linear models forget exactly by relabeling.",
         "Holds to 11 digits: column *digits* of {bench-exact-unlearning-full}."),
        ("Relabeling brings networks closer to retraining than other unlearning methods, for "
         "classes, subclasses and random samples.",
         [("(MUSO)", "")]),
    ),
    "NatMU (2405.15495)": (
        ("Blending retained content into the forgotten samples, under true labels, avoids "
         "unnatural models and outperforms relabeling.",
         [("(NatMU)", "")]),
    ),
    "SFR-on (2409.19732)": (
        ("Steps that follow the geometry of the retained set forget while the rest is kept, better "
         "than other approximate methods.",
         [("forget samples (SFRon)", "")]),
        ("The same method makes diffusion models forget a class.",
         "Holds here: the class is hardly drawn any more, see {bench-class-forgetting-full}. The "
         "mask adds little, see the row *redirect, no mask* of {bench-class-forgetting}."),
    ),
    "OrthLoss (2405.17816)": (
        ("Fine-tuning with auxiliary outliers improves detection.",
         [("(OrthLoss)", "")]),
        ("Enlarging the difference of features is more effective than enlarging that of outputs.",
         "Holds in part: in {bench-ood-full}, the row *OrthLoss, rowspace* is above *OE, msp* on "
         "the mean over all unknown sets of digits and clothing, and near the clothes. Near the "
         "digits, *OE, msp* has the lower FPR95."),
        ("Outliers are too diverse to model, but the features of a class are nearly identical to "
         "its row of the last layer (neural collapse), which tells where outliers must not lie.",
         "Does not hold here as a premise, because the networks are small and trained briefly: the "
         "example on OrthLoss prints that more than half of the length of a digit's unit feature "
         "lies outside the row space. The method works nevertheless."),
        ("The loss binds the features of outliers to a subspace orthogonal to that of the classes.",
         "Holds here: the example on OrthLoss asserts that the mean cosine of unknown inputs with "
         "the rows falls to less than half."),
        ("The method is the best on CIFAR, without further augmentation or sampling.",
         "Does not hold here, because a small network trained on 1,200 images does not separate "
         "the classes: on *cifar* of {bench-ood-full}, nearest neighbors and Mahalanobis are far "
         "above it."),
    ),
    "Diffusion disparity (2409.10094)": (
        ("Comparing an image with its regeneration by a diffusion model detects unknown inputs.",
         [("(diffusion disparity)", "")]),
        ("Distances between images miss abstract patterns, which reflect the difference of "
         "distributions better.",
         "Does not hold here, because the images are small and the classifiers weak: in "
         "{bench-diffusion-ood-full}, the row *pixels* has a higher AUROC than *features* and "
         "*probabilities* on every data set. Near the digits as images, these two have the lower "
         "FPR95."),
        ("Features and probabilities of the classifier make the disparity more informative.",
         "Holds in part: on digits, *regeneration*, which adds features to pixels, is above "
         "*pixels* in {bench-diffusion-ood-full}. On clothing it has the lower FPR95, but *pixels* "
         "the higher AUROC."),
        ("Removing anomalies from the regeneration makes disparities more distinct.",
         "See the rows *paper, empirical*, *both clipped* and *no removal* of "
         "{bench-diffusion-ood}."),
        ("The method is the best of those with diffusion models.",
         "Not measured: none of the detectors compared here has a diffusion model. The first line "
         "compares it with other detectors."),
    ),
    "MEHL-Soup (2407.03641)": (
        ("Learned coefficients of a soup are more accurate than uniform and greedy ones.",
         [("(MEHL-Soup+)", "")]),
        ("Learning works in the memory of a few models, however many ingredients there are.",
         "Holds: {bench-soup-memory} measures it for 16 ingredients."),
    ),
    "Flat-LoRA (2409.14396)": (
        ("Noise on the merged weights finds flatter minima, and is more accurate than LoRA.",
         [("(Flat-LoRA", "")]),
        ("It costs almost no time and memory beyond LoRA.",
         "See {bench-flat-lora-cost} for seconds and megabytes per step."),
    ),
}  # fmt: skip
HEADER = """(paper_claims)=
# What the papers claim, and what holds here

This page lists the claims of the ten abstracts, in our words, beside our own comparisons. Small
networks and tables on one machine cannot refute a paper; they show what you may expect at this
size. Where comparisons decide, the answer is computed from the lines of the
[scoreboard](#scoreboard): a claim *holds here* if some comparisons are better and none is worse or
mixed, *holds in part* if some are better, and *does not hold here* otherwise. Each comparison is
with the best peer, in parentheses, which is not always the one that the claim names.
"""


def answer(lines: list[Line]) -> str:
    """Return the answer to a claim, with the comparisons behind it."""
    verdicts = [line.verdict for line in lines]
    n_better = verdicts.count("better")
    n_against = verdicts.count("worse") + verdicts.count("mixed")
    if n_against == 0 and n_better:
        word = "Holds here"
    else:
        word = "Holds in part" if n_better else "Does not hold here"
    parts = [
        f"{verdict} on "
        + ", ".join(f"{_scoreboard.plain(each.data)} ({each.peer})" for each in found)
        for verdict in ("better", "level", "mixed", "worse")
        if (found := [line for line in lines if line.verdict == verdict])
    ]
    return f"**{word}:** {'; '.join(parts)}."


def text() -> str:
    """Return the page."""
    every = _scoreboard.lines()
    sections = [HEADER]
    for paper, claims in CLAIMS.items():
        rows = ["| Claim | Here |", "| --- | --- |"]
        for claim, evidence in claims:
            if isinstance(evidence, str):
                here = evidence.replace("{", "[the record](#").replace("}", ")")
            else:
                here = answer(
                    [
                        line
                        for title, data in evidence
                        for line in every
                        if title in line.entry.title and data in line.data
                    ]
                )
            rows.append(f"| {claim} | {here} |")
        sections.append("\n".join([f"## {paper}", "", *rows]) + "\n")
    return "\n".join(sections)
