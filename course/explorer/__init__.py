"""The explorer: tables of advantages, a maze that is learnt, and coverage, in one page that needs no install."""
