"""The words of the simulated agency: topics and the pieces that articles, reasonings and comments are built of."""

TOPICS = (
    ("weekend hiking", ("boots", "trails", "rucksacks", "rainwear")),
    ("home coffee", ("espresso", "grinders", "crema", "filters")),
    ("balcony gardens", ("tomatoes", "planters", "compost", "seedlings")),
    ("family holidays", ("beaches", "ferries", "campsites", "itineraries")),
    ("personal savings", ("budgets", "pensions", "dividends", "mortgages")),
    ("better sleep", ("mattresses", "pillows", "bedtime", "insomnia")),
    ("city cycling", ("helmets", "commuting", "panniers", "tyres")),
    ("slow cooking", ("stews", "casseroles", "braising", "lentils")),
    ("small workshops", ("drills", "sanders", "dowels", "varnish")),
    ("gentle skincare", ("sunscreen", "serums", "retinol", "cleansers")),
    ("learning music", ("pianos", "chords", "metronomes", "scales")),
    ("remote work", ("headsets", "monitors", "calendars", "ergonomics")),
)
TITLES = (
    "A calm guide to {subject}",
    "What we learned about {subject}",
    "{subject}: where to begin",
    "Everything you need for {subject} this season",
    "The honest facts on {subject}",
    "How to enjoy {subject} without the fuss",
)
HEADINGS = (
    "Where to start",
    "What to look for",
    "The short version",
    "What our customers say",
    "Before you order",
    "Common mistakes",
    "Next steps",
)
LINKS = (
    "Read more in [our overview](https://agency.example/overview).",
    "The full comparison is [on this page](https://agency.example/comparison).",
    "Questions are answered [by our team](https://agency.example/contact) within a day.",
)
KEYWORD_SENTENCES = (
    "Readers often ask us about {keyword}.",
    "When it comes to {keyword}, small details matter.",
    "Our notes on {keyword} begin with the basics.",
    "Start with {keyword} and the rest gets easier.",
    "The part about {keyword} is worth a second look.",
    "For {keyword} we keep a short checklist at hand.",
    "We compared {keyword} across several weeks of daily use.",
    "Anyone looking into {keyword} will find a clear answer here.",
)
SHORT_ENDINGS = ("Enjoy!", "Try it.", "See for yourself.", "We hope it helps.", "Let us know your thoughts.")

SUBJECT = "{subject} {subject}"
"""Stands for the subject of a topic and has as many words as each of them: two."""

OPENERS = (
    "",
    "",
    "",
    "",
    "In our experience, ",
    "As a rule, ",
    "At first, ",
    "With {subject} {subject}, ",
    "For anyone new to {subject} {subject}, ",
    "After a few weeks, ",
)
PLAIN_CLAUSES = (
    "you do not need much to begin",
    "a short list beats a long one",
    "the first try may not go to plan",
    "good advice saves money",
    "most mistakes are made in the first week",
    "cheap options cost more in the end",
    "a little patience pays off",
    "the basics matter most",
    "every home is not the same",
    "it helps to ask a friend who has done it before",
    "we like to keep things simple",
    "small steps are easier to keep up",
    "our team tried it at home for a month",
    "you will know after a day or two",
    "there is no need to buy it all at once",
    "the rest can wait until spring",
    "an hour a week is enough",
    "many of our readers tell us the same",
    "the right time is now",
    "you can always change your mind later",
    "a clear plan makes the day calm",
    "old habits are hard to break",
    "it is worth the wait",
    "less is often more",
)
RICH_CLAUSES = (
    "experienced households usually prepare several weeks ahead",
    "independent comparisons rarely recommend a single product",
    "manufacturers have considerably improved their instructions",
    "reliable information is surprisingly difficult to find",
    "professional equipment only becomes worthwhile with regular use",
    "seasonal differences are frequently underestimated",
    "the environmental benefits are increasingly well documented",
    "unnecessary complications generally result from insufficient preparation",
    "customer satisfaction depends on realistic expectations",
    "sustainable materials remain comparatively expensive",
    "individual circumstances determine the appropriate solution",
    "thorough documentation simplifies every subsequent decision",
    "long-term maintenance deserves particular attention",
    "regular practice produces measurable improvements",
    "transparent pricing strengthens confidence in the recommendation",
    "specialist retailers provide substantially better support",
    "experts increasingly emphasise practical demonstrations",
    "alternative approaches require additional coordination",
)
CONNECTORS = ("and", "because", "while", "so", "even though", "but")

REASONING_OPENINGS = (
    "The brief asks for",
    "The audience expects",
    "Earlier reviews of this channel favour",
    "The outline leaves room for",
    "Search intent points to",
    "The style guide prefers",
    "A comparison of the options suggests",
    "The last draft was missing",
)
REASONING_OBJECTS = (
    "a direct opening",
    "short paragraphs",
    "concrete numbers",
    "a warmer tone",
    "one example for each claim",
    "a clear call to action",
    "a plain summary",
    "headings that answer a question",
    "a neutral comparison",
    "the benefit before the feature",
)
REASONING_CONSEQUENCES = (
    "so the first section states the point at once",
    "so I move the product details further down",
    "which the second option does better",
    "although this makes the text a little longer",
    "and the keyword list supports that",
    "so I drop the long introduction",
    "while keeping the promise of the title",
    "which fits the channel",
)
CLOSING_STARTS = ("Going with", "I choose", "Best fit:", "Decision:", "I settle on", "This favours", "I keep", "I continue with")
CLOSING_CHOICES = (
    "it",
    "this",
    "plan A",
    "option two",
    "the outline",
    "the first idea",
    "the calmer draft",
    "the shorter version",
    "the direct opening",
    "the structured variant",
    "the question-led outline",
)
CLOSING_REASONS = (
    "",
    " now",
    " here",
    " for now",
    " as asked",
    " for clarity",
    " for this brief",
    " for this channel",
    ", it reads better",
    ", as the brief asks",
    ", because it answers the question first",
    ", since the audience knows the product well",
    ", because the other options repeat what the reader has seen before",
    ", since earlier reviews of similar texts asked for exactly this structure",
)
ALTERNATIVES = (
    "lead with a question",
    "lead with the benefit",
    "list format",
    "step-by-step guide",
    "customer story",
    "comparison table",
    "short teaser",
    "expert quote",
    "seasonal angle",
    "problem and solution",
    "frequently asked questions",
    "longer introduction",
    "checklist",
    "myth and fact",
    "price first",
    "behind the scenes",
)
PRAISE = {
    "content_quality": ("Well argued and easy to follow.", "Solid piece, the examples help.", "Accurate and complete."),
    "brand_alignment": ("Sounds like us.", "The voice is spot on.", "Fits the brand nicely."),
    "seo_effectiveness": ("Should rank well.", "Keywords feel natural.", "Good headings for search."),
    "audience_targeting": (
        "Speaks to the right people.",
        "Our readers will like this.",
        "Good sense of what the customer wants to know.",
    ),
}
COMPLAINTS = {
    "content_quality": ("Too thin, needs facts.", "The middle part repeats itself.", "Some claims need a source."),
    "brand_alignment": ("This is not our voice.", "Too salesy for the brand.", "Please use the wording of the style guide."),
    "seo_effectiveness": ("Keywords are stuffed in.", "The headings will not be found.", "Main search term comes far too late."),
    "audience_targeting": ("Our newsletter readers will not care.", "Assumes too much knowledge.", "What does the reader gain?"),
}
VERDICTS = {
    "approve": ("Good to go.", "Approved, thanks!", "Publish it.", "Fine for me."),
    "request_changes": ("Almost there.", "One more round please.", "Please rework this part.", "Close, but not yet."),
    "reject": ("Not usable like this.", "Please start over.", "I cannot approve this.", "Sorry, no."),
}
ISSUES = {
    "content_quality": ("thin content", "repetition", "unsupported claim"),
    "brand_alignment": ("off-brand tone", "too promotional", "wrong terminology"),
    "seo_effectiveness": ("keyword stuffing", "weak headings", "missing search term"),
    "audience_targeting": ("wrong audience", "too technical", "no clear benefit"),
}
SUGGESTIONS = {
    "content_quality": (
        "Add one concrete example to each section",
        "Cut the repetition in the middle",
        "Name a source for each claim",
    ),
    "brand_alignment": ("Follow the style guide for the opening", "Tone down the sales language", "Use our product names"),
    "seo_effectiveness": (
        "Use the keywords where they read naturally",
        "Turn headings into questions",
        "Name the search term early",
    ),
    "audience_targeting": ("Open with what this audience asks", "Explain the technical terms", "Say early what the reader gains"),
}
