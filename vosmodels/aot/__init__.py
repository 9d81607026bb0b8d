"""Define AOT and DeAOT, which segment all objects in one pass by their identities."""
