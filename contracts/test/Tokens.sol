// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @dev An ERC-20 that anyone may make more of. Stands in for stablecoins and other tokens in tests and the demo.
contract TestToken is ERC20 {
    uint8 private immutable _decimals;

    constructor(string memory name_, string memory symbol_, uint8 decimals_) ERC20(name_, symbol_) {
        _decimals = decimals_;
    }

    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @dev Keeps a hundredth of each transfer, as USDT could.
contract FeeToken is TestToken {
    constructor() TestToken("Fee", "FEE", 6) {}

    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) || to == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - fee);
        if (fee != 0) super._update(from, address(0), fee);
    }
}

/// @dev Answers transfers with nothing, as USDT does on Ethereum.
contract SilentToken is TestToken {
    constructor() TestToken("Silent", "SLT", 6) {}

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        super.transferFrom(from, to, amount);
        assembly {
            return(0, 0)
        }
    }
}

/// @dev Moves nothing, and says so by returning false.
contract FalseToken is TestToken {
    constructor() TestToken("False", "FLS", 6) {}

    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @dev Makes the call it was told to while it moves, and reverts with what that reverts with.
contract CallingToken is TestToken {
    address private _target;
    bytes private _call;

    constructor() TestToken("Calling", "CLL", 6) {}

    function setCall(address target, bytes calldata call_) external {
        (_target, _call) = (target, call_);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        (bool ok, bytes memory answer) = _target.call(_call);
        if (!ok) {
            assembly {
                revert(add(answer, 32), mload(answer))
            }
        }
        return super.transferFrom(from, to, amount);
    }
}
