"""A seeded content agency with known truth: agents that write, reviewers with habits, reviews whose causes are planted."""
