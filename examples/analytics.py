"""Describe a series of numbers by a job: `make up` in one terminal, this in another.

It measures a thousand machine parts with a gauge that sometimes fails, and asks a worker what the
measurements say.
"""

import numpy as np

from producers import InvalidRequest, analytics

rng = np.random.default_rng(1)
millimetres = rng.normal(25.0, 0.02, size=1_000)
millimetres[::97] = np.nan  # the gauge said nothing
millimetres[500] = 27.0  # the gauge slipped

try:
    analytics.basic_statistics(millimetres)
except (
    InvalidRequest
) as refusal:  # NaN is refused, here and at once, unless a policy says otherwise
    print(f"refused:  {refusal}")

said = analytics.basic_statistics(millimetres, percentiles=[2.5, 97.5], nan_policy="omit")

low, high = said.percentiles
print(f"parts:    {said.count} measured, {said.missing} missing")
print(f"mean:     {said.mean:.4f} mm, standard error {said.sem:.4f}")
print(f"median:   {said.median:.4f} mm, 95 % of the parts in [{low:.4f}, {high:.4f}]")
print(f"spread:   std {said.std:.4f} mm, but 1.4826 MAD {1.4826 * said.mad:.4f}: look for outliers")
print(f"shape:    skewness {said.skewness:.1f}, excess kurtosis {said.kurtosis:.0f}")
print(f"computed: {said.backend} kernel, {said.simd}, {said.kernel_seconds * 1e6:.0f} microseconds")
