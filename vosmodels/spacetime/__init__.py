"""Define STCN and MobileVOS, which match frames with a memory of past frames."""
