"""STCN and MobileVOS: networks that read masks out of a memory of past frames."""
