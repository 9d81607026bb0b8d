"""Run jobs on Ray and score what they write."""
