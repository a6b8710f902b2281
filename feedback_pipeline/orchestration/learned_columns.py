"""The columns of everything that is learned, as the web UI shows them.

Belongs here: names, types and meanings for people. Does not belong here: how a value is computed (learning/).
"""

from typing import Final

from feedback_pipeline.orchestration.columns import table_schema

CORRELATIONS: Final = table_schema(
    [
        ("agent_name", "string", "the agent; * = all outputs of the fleet"),
        ("feature", "string", "property of the output"),
        ("aspect", "string", "what people scored"),
        ("r", "float", "Spearman correlation with the adjusted score; missing = undefined, with a reason"),
        ("r_shrunk", "float", "the same, shrunk towards the other agents"),
        ("ci_low", "float", "95 % interval, robust to reviewers"),
        ("ci_high", "float", "95 % interval, robust to reviewers"),
        ("q_value", "float", "false discovery rate within the agent"),
        ("confidence", "float", "1 - local false sign rate"),
        ("n_contents", "int", "outputs with both values"),
        ("published", "bool", "whether agents may read it"),
        ("reason", "string", "why it is not published"),
    ]
)

SEVERITIES: Final = table_schema(
    [
        ("reviewer", "string", "R1, R2, ...: the reviewers of this run in the order of their ids"),
        ("aspect", "string", "what was scored"),
        ("severity", "float", "points given above (+) or below (-) the average reviewer"),
        ("se", "float", "its standard error"),
        ("n_reviews", "int", "reviews of this reviewer"),
        ("comparable", "bool", "whether this reviewer can be compared with most others"),
        ("method", "string", "how it was estimated"),
        ("reason", "string", "why not by the joint model of scores"),
    ]
)

AGREEMENT: Final = table_schema(
    [
        ("aspect", "string", "what was scored; decision = what was decided"),
        ("alpha", "float", "Krippendorff's alpha of all agents' outputs: 1 = all agree, 0 = no better than chance"),
        ("ci_low", "float", "95 % interval over outputs"),
        ("ci_high", "float", "95 % interval over outputs"),
        ("alpha_adjusted", "float", "the same after severity is removed"),
        ("adjusted_ci_low", "float", "95 % interval, given the severities"),
        ("adjusted_ci_high", "float", "95 % interval, given the severities"),
        ("n_outputs", "int", "outputs with two or more reviewers"),
        ("n_reviewers", "int", "reviewers who gave a value"),
        ("reason", "string", "why something is undefined"),
    ]
)

COMPONENTS: Final = table_schema(
    [
        ("component", "int", "reviewers whom shared outputs connect; severity cannot be compared between components"),
        ("reviewers", "int", "how many"),
    ]
)

PUBLISHED: Final = table_schema(
    [
        ("agent_name", "string", "the agent"),
        ("agent_output_feature", "string", "property of the output"),
        ("human_feedback_aspect", "string", "what people scored"),
        ("correlation_strength", "float", "Spearman correlation"),
        ("statistical_significance", "float", "p, the larger of the content-level and the reviewer-robust one"),
        ("feature_range", "json", "where the scores are best, and what was observed"),
        ("feedback_impact", "json", "scores at which approval becomes likely or unlikely"),
        ("published", "bool", "whether agents may read it"),
        ("learning_run_id", "uuid", "the learning run that published it"),
    ]
)

PATTERNS: Final = table_schema(
    [
        ("agent_name", "string", "the agent; * = all outputs of the fleet"),
        ("pattern_type", "string", "what kind of pattern it is"),
        ("description", "string", "what was tested, without numbers: the pattern is known by it again"),
        ("sentence", "string", "the pattern in words"),
        ("effect", "float", "its size; missing = undefined, with a reason"),
        ("unit", "string", "of the effect: sd = standard deviations, approval = a share of the outputs, points = of score"),
        ("ci_low", "float", "95 % interval"),
        ("ci_high", "float", "95 % interval"),
        ("q_value", "float", "false discovery rate within its own family"),
        ("confidence", "float", "1 - local false sign rate, the same for every kind"),
        ("n_contents", "int", "outputs it rests on"),
        ("n_reviewers", "int", "reviewers it rests on"),
        ("published", "bool", "whether agents may read it"),
        ("reason", "string", "why it is not published"),
    ]
)

PATTERN_COUNTS: Final = table_schema(
    [
        ("pattern_type", "string", "what kind of pattern"),
        ("tested", "int", "candidates"),
        ("published", "int", "patterns that agents may read"),
        ("agents", "int", "agents with one; all outputs of the fleet count as one"),
        ("mostly withheld for", "string", "the commonest reason of the others"),
    ]
)

PARTS: Final = table_schema(
    [
        ("part", "string", "what was looked for"),
        ("status", "string", "what came of it"),
        ("agents", "int", "how many agents"),
        ("reason", "string", "why there is nothing, or not everything, in the words of one of them"),
    ]
)

SEGMENTS: Final = table_schema(
    [
        ("agent_name", "string", "the agent"),
        ("family", "string", "the category, or the two"),
        ("segment", "string", "its level, or the two"),
        ("n", "int", "outputs with a decision"),
        ("approval_raw", "float", "share of them that is approved"),
        ("approval", "float", "the same, shrunken towards what the agent and the main effects say"),
        ("approval_low", "float", "90 % interval"),
        ("approval_high", "float", "90 % interval"),
        ("n_scored", "int", "outputs with a score"),
        ("score_raw", "float", "their mean adjusted score"),
        ("score", "float", "the same, shrunken"),
        ("score_low", "float", "90 % interval"),
        ("score_high", "float", "90 % interval"),
    ]
)

ALLOCATION: Final = table_schema(
    [
        ("agent_name", "string", "the agent"),
        ("family", "string", "the category"),
        ("segment", "string", "its level"),
        ("n", "int", "outputs with a decision so far"),
        ("outputs", "int", "of the next batch"),
        ("propensity", "float", "chance of this level for an output of the batch: logged, so that results can be weighted"),
    ]
)

RECOMMENDATIONS: Final = table_schema(
    [
        ("agent_name", "string", "the agent"),
        ("rank", "int", "1 = most to gain"),
        ("text", "string", "the advice, with what it brings"),
        ("kind", "string", "what to do; the action names it so too"),
        ("feature", "string", "property of the output, where it is about one"),
        ("confidence", "float", "1 - local false sign rate"),
        ("q_value", "float", "false discovery rate over all patterns of the agent, of all kinds"),
        ("n_contents", "int", "outputs it rests on"),
        ("n_reviewers", "int", "reviewers it rests on"),
        ("conflicts", "string", "what speaks against it"),
    ]
)

REPORT: Final = table_schema(
    [
        ("rank", "int", "place of the recommendation; 1 = most to gain"),
        ("text", "string", "the advice, with what it brings"),
        ("expected effect", "string", "with its interval: 95 %, of a category 90 %"),
        ("confidence", "float", "1 - local false sign rate"),
        ("q_value", "float", "false discovery rate over all patterns of the agent, of all kinds"),
        ("evidence", "string", "outputs, reviewers and window it rests on"),
        ("conflicts", "string", "what speaks against it"),
    ]
)

CANDIDATES: Final = table_schema(
    [
        ("candidate", "string", "the model that competed, from the simplest on"),
        ("chosen", "bool", "the simplest that no other beats by the promotion rule"),
        ("r2", "float", "share of the variance of later reviews explained; 0 = no better than the mean of the earlier ones"),
        ("r2_low", "float", "95 % interval over contents"),
        ("r2_high", "float", "95 % interval over contents"),
        ("rmse", "float", "points"),
        ("mae", "float", "points"),
        ("spearman", "float", "rank correlation with the review"),
        ("share_of_ceiling", "float", "R2 over what is left when the reviewers' disagreement is taken away"),
        ("n", "int", "reviews forecast from earlier ones"),
        ("fit_seconds", "float", "time for all windows"),
    ]
)

STABILITY: Final = table_schema(
    [
        ("feature", "string", "of the outputs"),
        ("psi", "float", "population stability index: how far outputs reviewed since the last training differ from those before"),
        ("n_reference", "int", "outputs reviewed before"),
        ("n_recent", "int", "outputs reviewed since"),
        ("warning", "bool", "above 0.2"),
        ("reason", "string", "why there is no index"),
    ]
)

MODELS: Final = table_schema(
    [
        ("model_version", "int", "of the registered model"),
        ("candidate", "string", "which of the candidates it is"),
        ("trained_at", "timestamp", "when"),
        ("champion_since", "timestamp", "when it became champion; missing = never"),
        ("champion_until", "timestamp", "when it was replaced"),
        ("r2", "float", "forward in time"),
        ("rmse", "float", "points, forward in time"),
        ("reason", "string", "why it became champion, or did not"),
    ]
)

FORECASTS: Final = table_schema(
    [
        ("agent_name", "string", "who wrote the output"),
        ("score", "float", "expected overall score of a review by the average reviewer"),
        ("low", "float", "90 % interval of one review"),
        ("high", "float", "90 % interval of one review"),
        ("p_approve", "float", "chance of approval"),
        ("abstain", "bool", "the numbers are not to be relied on"),
        ("reason", "string", "why not"),
    ]
)

EFFECTS: Final = table_schema(
    [
        ("agent_name", "string", "whose recommendation it is"),
        ("kind", "string", "what it asks for"),
        ("feature", "string", "what it is about; empty for a word"),
        ("trial", "int", "counts from 1; another target, or a new finding after a retirement, starts the next"),
        ("state", "string", "candidate, probation, active or retired"),
        ("p_on", "float", "share of the executions that apply it"),
        ("uplift", "float", "approval with it less approval without, of executions that compare like with like"),
        ("low", "float", "95 % bound that holds at every moment"),
        ("high", "float", "95 % bound that holds at every moment"),
        ("n", "int", "executions with a decision"),
        ("n_applied", "int", "those that applied it"),
        ("n_held_out", "int", "those that did not, by chance"),
        ("n_waiting", "int", "executions that nobody has decided yet"),
        ("success_rate", "float", "approved among those that applied it"),
        ("success_rate_held_out", "float", "approved among those held out"),
        ("reason", "string", "why it is in this state, with the numbers of that moment"),
    ]
)
