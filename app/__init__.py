"""Short links: the reference application that Slipway deploys."""
