"""Lesson 3: bias and noise, without sampling. Arrays are numpy's; torch's, if this file imports torch."""

import math

import numpy as np


def table_weight(a, b, p):
    """Exercise 3.1 (2 points). Return the weight w_N(p) of a table as a float, right to nine digits up to N = 2048.

    a and b are arrays (N+1,): a[K] is the advantage of a success and b[K] that of a failure in a group with K
    successes. a[0] and b[N] belong to no group. p is a float in (0, 1).
    """
    raise NotImplementedError


def quiet(rewards):
    """Exercise 3.2 (4 points). As `order_t` of lesson 2 (unbiased for order T = $order, 0 at K = 0), and quiet.

    On a softmax policy with $answers equally likely answers, of which $right are right, the variance at
    N = $rollouts has to be within 1% of the least that any such table has. No estimator of the library is.

    Two things help: the baseline b(J) may be any function of the number J of OTHER rollouts that are right, and the
    variance is a quadratic in the numbers b(1), ..., b(N-1).
    """
    raise NotImplementedError


def choose(p, rollouts):
    """Exercise 3.3 (2 points). Return the name of the estimator with the least squared error for grad log p.

    Choose one of these, T being the order:

        "rloo"                     A = (r - K/N) N / (N-1)
        "grpo"                     A = (r - K/N) / sqrt(K/N (1 - K/N)), 0 without spread
        "maxrl"                    A = r N/K - 1, 0 at K = 0
        "maxrl_no_baseline"        A = r N/K, 0 at K = 0
        "maxrl_cross_fitted"       A = (r - J/(N-1)) N / (J+1), J the successes among the others
        "maxrl_order:order=N/2"    A = r N/K (1 - C(N-K,T)/C(N,T)) with T = N/2

    The squared error is |E[g] - grad log p|^2 + the variance of g (the trace of its covariance). The policy is a
    softmax with eight answers: three right ones with the probabilities p (0.6, 0.3, 0.1), five wrong ones with
    (1-p) (0.4, 0.3, 0.2, 0.07, 0.03). With q1 = E[|S|^2 1{r=1}] and q0 = E[|S|^2 1{r=0}]

        E|g|^2 = (1/N) E_{J~Bin(N-1,p)}[a(J+1)^2 q1 + b(J)^2 q0]
                 + (1 - 1/N) |grad p|^2 E_{J~Bin(N-2,p)}[a(J+2)^2 + b(J)^2 - 2 a(J+1) b(J+1)]

    You may compute here, or compute in a file of your own and write down a rule. It is asked at twelve (p, N), from
    p = 0.01 to 0.9 and N = 2 to 256; what is within 1% of the least counts as the least.
    """
    raise NotImplementedError
