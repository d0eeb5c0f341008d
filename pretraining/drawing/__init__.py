"""A generator of drawn images: things of many families, shaded and textured, in many scenes."""
